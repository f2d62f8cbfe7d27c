// Package command has the commands of `caddy vnic`. They ask the running instance by its
// admin API, except check and lab, which need no instance.
package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Add adds the commands to `caddy vnic`. The lab plays Fig-18 from the Caddyfile example.
func Add(vnic *cobra.Command, example string) {
	vnic.AddCommand(commands(example)...)
	vnic.Args = knownCommand
	vnic.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	vnic.SuggestionsMinimumDistance = 2
}

// knownCommand refuses unknown commands after `caddy vnic`. Without it, cobra would show the
// help and succeed, and a script would go on as if it had drained a segment.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 || args[0] == "help" {
		return nil
	}
	err := fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
	if meant := cmd.SuggestionsFor(args[0]); len(meant) > 0 {
		return fmt.Errorf("%w: did you mean %s?", err, strings.Join(meant, " or "))
	}
	return err
}

func commands(example string) []*cobra.Command {
	all := append(append(operationCommands(), banCommands()...), statusCommand(), checkCommand(), labCommand(example),
		switchCommand(), weightCommand(), flowsCommand(), captureCommand(), dashboardCommand(), serveRoleCommand(), upgradeCommand(), execCommand(), versionCommand())
	for _, cmd := range all {
		completeNames(cmd)
		run := cmd.RunE
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true // errors from here on do not come from a wrong usage
			return run(cmd, args)
		}
	}
	return all
}
