//go:build !race

package evloop

const raceDetector = false
