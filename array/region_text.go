package array

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseRegion reads a region as NumPy writes an index: "0:10,:,5", "::-2",
// "-1", "...,3". Slices are cut at the array's edges; a number out of range is
// an error, in NumPy's words. The second result is the shape that NumPy gives
// the result: axes with a number are left out. Errors wrap ErrShape.
func ParseRegion(text string, shape Shape) (Region, Shape, error) {
	refuse := func(format string, args ...any) (Region, Shape, error) {
		return Region{}, nil, fmt.Errorf("array: region %s of shape %v: %w: %s", quote(text), shape, ErrShape, fmt.Sprintf(format, args...))
	}
	var items []string
	if strings.TrimSpace(text) != "" {
		items = strings.Split(text, ",")
	}
	if k := len(items) - 1; k > 0 && strings.TrimSpace(items[k]) == "" {
		items = items[:k] // as Python, which writes a tuple of one as "5,"
	}
	dots, indexed := 0, 0
	for _, item := range items {
		if strings.TrimSpace(item) == "..." {
			dots++
		} else {
			indexed++
		}
	}
	switch {
	case dots > 1:
		return refuse("an index can only have a single ellipsis ('...')")
	case indexed > len(shape):
		return refuse("too many indices for array: array is %d-dimensional, but %d were indexed", len(shape), indexed)
	}
	r := WholeRegion(shape)
	result := Shape{}
	axis := 0
	for _, item := range items {
		item = strings.TrimSpace(item)
		if item == "..." {
			for rest := len(shape) - indexed; rest > 0; rest-- {
				result = append(result, shape[axis])
				axis++
			}
			continue
		}
		n := shape[axis]
		if !strings.Contains(item, ":") {
			at, err := strconv.Atoi(item)
			switch {
			case err != nil:
				return refuse("only integers, slices (`:`) and ellipsis (`...`) are valid indices, not %s", quote(item))
			case at < -n || at >= n:
				return refuse("index %s is out of bounds for axis %d with size %d", item, axis, n)
			case at < 0:
				at += n
			}
			r.Start[axis], r.Count[axis] = at, 1
			axis++
			continue
		}
		start, count, step, err := parseSlice(item, n)
		if err != nil {
			return refuse("%v", err)
		}
		if step != 1 && r.Step == nil {
			r.Step = make([]int, len(shape))
			for i := range r.Step {
				r.Step[i] = 1
			}
		}
		if r.Start[axis], r.Count[axis] = start, count; r.Step != nil {
			r.Step[axis] = step
		}
		result = append(result, count)
		axis++
	}
	return r, append(result, shape[axis:]...), nil
}

// parseSlice reads "start:stop:step" for an axis of n elements, as Python's
// slice.indices.
func parseSlice(text string, n int) (start, count, step int, err error) {
	parts := strings.Split(text, ":")
	if len(parts) > 3 {
		return 0, 0, 0, fmt.Errorf("%s is not start:stop:step", quote(text))
	}
	step = 1
	if len(parts) == 3 {
		if step, err = bound(parts[2], 1); err != nil {
			return 0, 0, 0, err
		}
	}
	low, high, stop := 0, n, n
	switch {
	case step == 0:
		return 0, 0, 0, fmt.Errorf("slice step cannot be zero")
	case step < 0:
		low, high = -1, n-1
		start, stop = n-1, -1
	}
	for i, at := range []*int{&start, &stop} {
		if strings.TrimSpace(parts[i]) == "" {
			continue
		}
		x, err := bound(parts[i], 0)
		if err != nil {
			return 0, 0, 0, err
		}
		if x < 0 {
			x += n
		}
		*at = min(max(x, low), high)
	}
	if step = min(max(step, -n-1), n+1); step > 0 { // a longer step takes the first element alone, too
		count = ceilDiv(max(stop-start, 0), step)
	} else {
		count = ceilDiv(max(start-stop, 0), -step)
	}
	switch {
	case count == 0:
		return 0, 0, 1, nil
	case count == 1:
		step = 1
	}
	return start, count, step, nil
}

// bound reads one number of a slice. One that no array reaches is cut, as in Python.
func bound(text string, missing int) (int, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return missing, nil
	}
	x, err := strconv.ParseInt(text, 10, 64)
	if err != nil && x == 0 {
		return 0, fmt.Errorf("slice indices must be integers, not %s", quote(text))
	}
	return int(min(max(x, -MaxBytes), MaxBytes)), nil
}
