package command

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/config"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/flowlist"
)

// names returns what an argument or a flag can be, after the arguments given before it, in the
// running instance.
type names func(s vnicbridge.Status, given []string) []string

func segmentNames(s vnicbridge.Status, _ []string) []string { return sortedKeys(s.Segments) }

func bridgeNames(s vnicbridge.Status, _ []string) []string { return sortedKeys(s.Bridges) }

// drainableNames are the segments, and the bridges whose addresses other machines can get.
func drainableNames(s vnicbridge.Status, _ []string) []string {
	all := sortedKeys(s.Segments)
	for _, name := range sortedKeys(s.Bridges) {
		if bridge := s.Bridges[name]; bridge.Role() != nil {
			all = append(all, "bridge/"+name)
		}
	}
	return all
}

func allNames(s vnicbridge.Status, _ []string) []string {
	all := append(sortedKeys(s.Segments), sortedKeys(s.Bridges)...)
	slices.Sort(all)
	return slices.Compact(all)
}

// policySegments returns the segments to which a bridge can be switched.
func policySegments(s vnicbridge.Status, given []string) []string {
	if p := s.Bridges[given[0]].Policy; p != nil {
		return p.Segments
	}
	return nil
}

// argumentNames has the arguments of the commands that take names.
var argumentNames = map[string][]names{
	"status": {allNames}, "capture": {allNames}, "weight": {segmentNames}, "exec": {segmentNames}, "serve-role": {segmentNames}, "switch": {bridgeNames, policySegments},
	"drain": {drainableNames}, "activate": {drainableNames}, "stop": {segmentNames}, "start": {segmentNames},
}

// flagNames has the flags that take names.
var flagNames = map[string]names{
	"segment": segmentNames, "bridge": bridgeNames,
	"state": func(vnicbridge.Status, []string) []string {
		return []string{string(flowlist.FlowHalfOpen), string(flowlist.Established), string(flowlist.FlowClosing)}
	},
	"protocol": func(vnicbridge.Status, []string) []string {
		return []string{config.TCP.String(), config.UDP.String(), config.ICMP.String()}
	},
}

// completeNames lets the shell complete the names that a command takes.
func completeNames(cmd *cobra.Command) {
	arguments := argumentNames[cmd.Name()]
	cmd.ValidArgsFunction = func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(given) >= len(arguments) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return namesNow(cmd, arguments[len(given)], given)
	}
	for flag, of := range flagNames {
		if cmd.Flags().Lookup(flag) != nil {
			_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
				return namesNow(cmd, of, given)
			})
		}
	}
}

// namesNow asks the running instance for names. If it does not answer, there are none.
func namesNow(cmd *cobra.Command, of names, given []string) ([]string, cobra.ShellCompDirective) {
	s, err := adminOf(cmd).status()
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
	}
	return of(s, given), cobra.ShellCompDirectiveNoFileComp
}
