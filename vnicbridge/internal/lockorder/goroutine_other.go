//go:build race && !amd64

package lockorder

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
)

// goroutineNumber reads the number of this goroutine from the first line of its stack:
// "goroutine 7 [running]:".
func goroutineNumber() uint64 {
	var buffer [64]byte
	line := buffer[:runtime.Stack(buffer[:], false)]
	digits, _, _ := bytes.Cut(bytes.TrimPrefix(line, []byte("goroutine ")), []byte(" "))
	number, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		panic(fmt.Sprintf("lockorder: the stack begins with %q", line))
	}
	return number
}
