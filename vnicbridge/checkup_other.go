//go:build !linux

package vnicbridge

func (c *checkup) run() {
	_, err := newMachine()
	c.error(err)
}
