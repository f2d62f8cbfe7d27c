// Package health checks whether segments serve. It probes their servers from the segments'
// own namespaces, and combines the results with what the plane knows without probing.
package health
