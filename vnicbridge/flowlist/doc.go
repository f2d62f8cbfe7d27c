// Package flowlist lists flows and the clients with the most flows. It reads the flow
// table in small parts, so that packets do not wait, and in bounded memory.
package flowlist
