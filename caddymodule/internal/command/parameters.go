package command

import (
	"net/url"
	"slices"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
)

// addParameters adds a flag for each parameter of a request, except for those without.
func addParameters[T any](cmd *cobra.Command, parameters api.Parameters[T], without ...string) {
	for name, parameter := range parameters {
		if !slices.Contains(without, name) {
			cmd.Flags().String(name, "", parameter.Usage)
		}
	}
}

// queryOf returns the query for the flags that are set.
func queryOf[T any](cmd *cobra.Command, parameters api.Parameters[T]) url.Values {
	query := make(url.Values)
	for name := range parameters {
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
			query.Set(name, flag.Value.String())
		}
	}
	return query
}
