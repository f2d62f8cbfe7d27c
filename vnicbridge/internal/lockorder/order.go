// Package lockorder gives the data plane's locks their order. A normal build has plain
// locks of package sync. A build with the race detector panics when a goroutine takes a
// lock while it holds one that comes later in the order, or at the same place.
package lockorder

// Lock is a kind of lock, with its place in the order.
type Lock interface{ place() *place }

// place is where a kind of lock stands.
type place struct {
	level int // a goroutine takes locks of ascending levels
	name  string
}

// The kinds of locks, in their order. The comment of package vnicbridge says what each
// kind guards.
type (
	Plane      struct{}
	Bans       struct{}
	Roles      struct{}
	Moving     struct{} // the forwarder's
	Greetings  struct{}
	Publishing struct{} // a link's
	KernelPath struct{}
	FlowTable  struct{}
)

// The kinds of locks that are held for one lookup or one change of their own data. Nobody
// holds two of them.
type (
	NextHops    struct{}
	Claim       struct{}
	NICFilter   struct{}
	ProgramRank struct{}
	Fragments   struct{}
	Handshakes  struct{}
	Orphans     struct{}
	OpenPorts   struct{}
	Pacer       struct{}
	Health      struct{}
)

// Log is the lock of the rate limit of the log. Whoever holds other locks may log.
type Log struct{}

const (
	levelPlane = 1 + iota
	levelBans
	levelRoles
	levelMoving
	levelGreetings
	levelPublishing
	levelKernelPath
	levelFlowTable
	levelOwnData
	levelLog
)

var (
	placePlane       = &place{levelPlane, "the plane's lock"}
	placeBans        = &place{levelBans, "the lock of the bans"}
	placeRoles       = &place{levelRoles, "the lock of the bridges' roles"}
	placeMoving      = &place{levelMoving, "the forwarder's lock on moving flows"}
	placeGreetings   = &place{levelGreetings, "the lock of the greetings"}
	placePublishing  = &place{levelPublishing, "a link's lock on publishing"}
	placeKernelPath  = &place{levelKernelPath, "the kernel path's lock"}
	placeFlowTable   = &place{levelFlowTable, "the flow table's lock"}
	placeNextHops    = &place{levelOwnData, "the lock of a link's next hops"}
	placeClaim       = &place{levelOwnData, "the lock of a claim"}
	placeNICFilter   = &place{levelOwnData, "the lock of a NIC's filter"}
	placeProgramRank = &place{levelOwnData, "the lock of a program's place"}
	placeFragments   = &place{levelOwnData, "the lock of the fragments"}
	placeHandshakes  = &place{levelOwnData, "the lock of the handshakes"}
	placeOrphans     = &place{levelOwnData, "the lock of the orphans"}
	placeOpenPorts   = &place{levelOwnData, "the lock of the open ports"}
	placePacer       = &place{levelOwnData, "the pacer's lock"}
	placeHealth      = &place{levelOwnData, "the health monitor's lock"}
	placeLog         = &place{levelLog, "the lock of the log's rate limit"}
)

func (Plane) place() *place       { return placePlane }
func (Bans) place() *place        { return placeBans }
func (Roles) place() *place       { return placeRoles }
func (Moving) place() *place      { return placeMoving }
func (Greetings) place() *place   { return placeGreetings }
func (Publishing) place() *place  { return placePublishing }
func (KernelPath) place() *place  { return placeKernelPath }
func (FlowTable) place() *place   { return placeFlowTable }
func (NextHops) place() *place    { return placeNextHops }
func (Claim) place() *place       { return placeClaim }
func (NICFilter) place() *place   { return placeNICFilter }
func (ProgramRank) place() *place { return placeProgramRank }
func (Fragments) place() *place   { return placeFragments }
func (Handshakes) place() *place  { return placeHandshakes }
func (Orphans) place() *place     { return placeOrphans }
func (OpenPorts) place() *place   { return placeOpenPorts }
func (Pacer) place() *place       { return placePacer }
func (Health) place() *place      { return placeHealth }
func (Log) place() *place         { return placeLog }
