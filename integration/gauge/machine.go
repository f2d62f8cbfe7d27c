package gauge

import "fmt"

// Machine is what a run ran on.
type Machine struct {
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	MemoryMiB int    `json:"memory_mib"`
	Kernel    string `json:"kernel"`
}

// String is the machine in a line.
func (m Machine) String() string {
	return fmt.Sprintf("%d cores (%s), %d MiB, Linux %s", m.Cores, m.CPU, m.MemoryMiB, m.Kernel)
}
