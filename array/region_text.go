package array

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseRegion reads a region as NumPy writes an index, without steps:
// "0:10,:,5", "-1", "...,3". Slices are cut at the array's edges; a number out of
// range is an error. The second result is the shape that NumPy gives the result:
// axes with a number are left out. Errors wrap ErrShape.
func ParseRegion(text string, shape Shape) (Region, Shape, error) {
	refuse := func(why string) (Region, Shape, error) {
		return Region{}, nil, fmt.Errorf("array: region %s of shape %v: %w: %s", quote(text), shape, ErrShape, why)
	}
	var items []string
	if strings.TrimSpace(text) != "" {
		items = strings.Split(text, ",")
	}
	r := WholeRegion(shape)
	result := Shape{}
	axis, dots := 0, false
	for k, item := range items {
		item = strings.TrimSpace(item)
		if item == "..." {
			if dots {
				return refuse("... twice")
			}
			dots = true
			for rest := len(shape) - (len(items) - k - 1); axis < rest; axis++ {
				result = append(result, shape[axis])
			}
			continue
		}
		if axis == len(shape) {
			return refuse(fmt.Sprintf("more than %d axes", len(shape)))
		}
		n := shape[axis]
		from, to, slice := strings.Cut(item, ":")
		start, err := bound(from, 0, n)
		if err != nil {
			return refuse(err.Error())
		}
		if !slice {
			if from == "" || start < 0 || start >= n {
				return refuse(fmt.Sprintf("index %s is out of bounds for axis %d with size %d", quote(item), axis, n))
			}
			r.Start[axis], r.Count[axis] = start, 1
			axis++
			continue
		}
		if strings.Contains(to, ":") {
			return refuse("a slice with a step; read the slice and take every n-th element")
		}
		end, err := bound(to, n, n)
		if err != nil {
			return refuse(err.Error())
		}
		start, end = min(max(start, 0), n), min(max(end, 0), n)
		r.Start[axis], r.Count[axis] = start, max(end-start, 0)
		result = append(result, r.Count[axis])
		axis++
	}
	for ; axis < len(shape); axis++ {
		result = append(result, shape[axis])
	}
	return r, result, nil
}

// bound reads one side of a slice; negative numbers count from the end.
func bound(text string, missing, n int) (int, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return missing, nil
	}
	x, err := strconv.Atoi(text)
	if err != nil || x < -MaxBytes || x > MaxBytes {
		return 0, fmt.Errorf("%s is not an integer in range", quote(text))
	}
	if x < 0 {
		x += n
	}
	return x, nil
}
