// Package checkup says what this machine lacks for a configuration, or what about it may
// surprise its administrator, each with its fix. It changes nothing.
package checkup
