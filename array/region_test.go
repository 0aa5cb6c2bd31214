package array

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseRegion(t *testing.T) {
	shape := Shape{7, 11, 5}
	for _, tt := range []struct{ text, region, shape string }{
		{"", "[0:7, 0:11, 0:5]", "(7, 11, 5)"},
		{"...", "[0:7, 0:11, 0:5]", "(7, 11, 5)"},
		{"3", "[3:4, 0:11, 0:5]", "(11, 5)"},
		{"-1,", "[6:7, 0:11, 0:5]", "(11, 5)"},
		{"0:10,:,4", "[0:7, 0:11, 4:5]", "(7, 11)"},
		{"..., 3", "[0:7, 0:11, 3:4]", "(7, 11)"},
		{"1, ..., -2", "[1:2, 0:11, 3:4]", "(11,)"},
		{"1,2,3,...", "[1:2, 2:3, 3:4]", "()"},
		{"::2", "[0:8:2, 0:11, 0:5]", "(4, 11, 5)"},
		{"::-1,10:2:-3", "[6:-1:-1, 10:1:-3, 0:5]", "(7, 3, 5)"},
		{"-99:99:99", "[0:1, 0:11, 0:5]", "(1, 11, 5)"},
		{"5:2", "[0:0, 0:11, 0:5]", "(0, 11, 5)"},
		{"2:5:-1", "[0:0, 0:11, 0:5]", "(0, 11, 5)"},
		{"99999999999999999999:", "[0:0, 0:11, 0:5]", "(0, 11, 5)"},
		{":-99999999999999999999:-99999999999999999999", "[6:7, 0:11, 0:5]", "(1, 11, 5)"},
	} {
		r, result, err := ParseRegion(tt.text, shape)
		if err != nil || r.String() != tt.region || result.String() != tt.shape || r.Check(shape) != nil {
			t.Errorf("%q: %v %v, %v; want %s %s", tt.text, r, result, err, tt.region, tt.shape)
		}
	}
	for text, want := range map[string]string{
		"7":                   "index 7 is out of bounds for axis 0 with size 7",
		":,-12":               "index -12 is out of bounds for axis 1 with size 11",
		"0,0,0,0":             "too many indices for array: array is 3-dimensional, but 4 were indexed",
		"...,...":             "an index can only have a single ellipsis ('...')",
		"::0":                 "slice step cannot be zero",
		"1.5":                 "only integers, slices",
		"a:b":                 "slice indices must be integers",
		"1:2:3:4":             "start:stop:step",
		"0,,0":                "only integers, slices",
		"9223372036854775808": "only integers, slices",
	} {
		if _, _, err := ParseRegion(text, shape); !errors.Is(err, ErrShape) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// A slice is what walking along the axis by its definition finds.
func TestParseRegion_slices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 9).Draw(t, "n")
		step := rapid.IntRange(-4, 4).Filter(func(s int) bool { return s != 0 }).Draw(t, "step")
		bound := func(name string) (text string, given bool, x int) {
			if rapid.Bool().Draw(t, name+" given") {
				x = rapid.IntRange(-12, 12).Draw(t, name)
				return strconv.Itoa(x), true, x
			}
			return "", false, 0
		}
		from, hasStart, start := bound("start")
		to, hasStop, stop := bound("stop")
		if start < 0 {
			start += n
		}
		if stop < 0 {
			stop += n
		}
		var want []int
		for k := range n {
			at := k
			if step < 0 {
				at = n - 1 - k
			}
			first := 0
			switch {
			case step > 0 && hasStart:
				first = max(start, 0)
			case step < 0 && hasStart:
				first = min(start, n-1)
			case step < 0:
				first = n - 1
			}
			inside := !hasStop || step > 0 && at < stop || step < 0 && at > stop
			if d := at - first; inside && d*step >= 0 && d%step == 0 {
				want = append(want, at)
			}
		}
		r, shape, err := ParseRegion(fmt.Sprintf("%s:%s:%d", from, to, step), Shape{n})
		if err != nil || r.Check(Shape{n}) != nil {
			t.Fatal(r, err, r.Check(Shape{n}))
		}
		var got []int
		for k := range r.Count[0] {
			got = append(got, r.Start[0]+k*r.step(0))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || shape[0] != len(want) {
			t.Fatalf("%s:%s:%d of %d: %v %v, want %v", from, to, step, n, got, shape, want)
		}
	})
}

func TestRegion_check(t *testing.T) {
	for text, r := range map[string]Region{
		"step 0":        {Start: Shape{0}, Count: Shape{1}, Step: []int{0}},
		"past the end":  {Start: Shape{0}, Count: Shape{4}, Step: []int{3}},
		"past begin":    {Start: Shape{3}, Count: Shape{3}, Step: []int{-2}},
		"at the end":    {Start: Shape{9}, Count: Shape{1}, Step: []int{-1}},
		"huge step":     {Start: Shape{1}, Count: Shape{2}, Step: []int{-1 << 63}},
		"other axes":    {Start: Shape{0}, Count: Shape{1}, Step: []int{1, 1}},
		"more than all": {Start: Shape{0}, Count: Shape{1 << 62}, Step: []int{1 << 62}},
	} {
		if err := r.Check(Shape{9}); !errors.Is(err, ErrShape) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
