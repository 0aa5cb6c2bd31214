//go:build !amd64 || purego

package codec

func shuffleVector(dst, src []byte, size, n int) int   { return 0 }
func unshuffleVector(dst, src []byte, size, n int) int { return 0 }
func planeToRowsVector(rows, plane []byte) int         { return 0 }
func rowsToPlaneVector(plane, rows []byte) int         { return 0 }
