// Package health checks whether segments serve: it asks their servers from the segments'
// own namespaces, and combines the results with what is known without asking.
package health
