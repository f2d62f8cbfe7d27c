package host

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// Place identifies the running machine and the network namespace of this process: where these are
// others, the open files of a process are of no use.
var Place = sync.OnceValues(func() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the number of the machine's start: %w", err)
	}
	ns, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return "", fmt.Errorf("reading the network namespace: %w", err)
	}
	return strings.TrimSpace(string(boot)) + " " + ns, nil
})
