package gauge

import "fmt"

// Machine describes the machine on which a run ran.
type Machine struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	MemoryMiB int    `json:"memory_mib"`
	Kernel    string `json:"kernel"`
}

// String returns the description in one line.
func (m Machine) String() string {
	return fmt.Sprintf("%d cores (%s), %d MiB, Linux %s", m.Cores, m.CPU, m.MemoryMiB, m.Kernel)
}
