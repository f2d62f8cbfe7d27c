//go:build !race

package vnicbridge

const detectsRaces = false
