// Package config is what users write: segments, bridges, rules and policies as plain
// data, their validation, and the names and addresses that follow from the data alone.
// It is the ground of the data plane and imports none of its other packages. It runs on
// any system, so that a configuration can be checked anywhere.
package config
