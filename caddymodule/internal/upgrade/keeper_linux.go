package upgrade

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/fdstore"
	"github.com/caddy-vnic/caddy-vnic/sites"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge"
	"github.com/caddy-vnic/caddy-vnic/vnicbridge/succession"
)

// Keeper keeps the open files of the data plane and the sites with the service manager, if that can.
// When the process ends, even by a crash, the kernel goes on carrying packets and connections wait
// in the listening sockets, until the next process has taken over.
type Keeper struct {
	Plane   *vnicbridge.Plane
	Sockets *sites.Sockets

	asked atomic.Bool // Predecessor was called
	kept  atomic.Bool // the service manager keeps what there is

	mu       sync.Mutex // comes before the plane's lock
	store    *fdstore.Store
	remains  *vnicbridge.Remains // of the process before, until this one is ready
	keeping  bool                // the process is ready
	ending   bool                // the files stay as they are, although sockets close
	arranged [2]uint64           // of the plane and the sockets, when the files were kept
	leavings vnicbridge.Leavings
	note     vnicbridge.Note
	bans     *succession.Record     // of the note
	told     atomic.Pointer[string] // the last state in the log
}

// keepInterval is how old what is kept can be when the process is killed.
const keepInterval = 250 * time.Millisecond

// The names of the files that are not the plane's.
const (
	bansName    = "bans"
	sitesPrefix = "site/"
)

func logger() *zap.Logger { return caddy.Log().Named("vnic") }

// Predecessor returns what the process before has left, or nil if there is nothing, or if it cannot
// be taken over: then the log says why, and nothing is left. Only the first call does anything.
func (k *Keeper) Predecessor() (vnicbridge.Predecessor, error) {
	if k.asked.Swap(true) || !fdstore.Available() {
		return nil, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	incomplete, err := k.open()
	if err == nil && incomplete == nil {
		incomplete, err = k.openRemains()
	}
	if err != nil {
		return nil, err
	}
	if incomplete != nil {
		logger().Warn("what the process before has left is removed, and this one begins anew", zap.NamedError("because", incomplete))
		return nil, k.store.Clear()
	}
	if k.remains == nil {
		return nil, nil
	}
	return k.remains, nil
}

// discardAfter is how long after the process's begin the data plane can begin and still take over. After
// that, the configuration has no segments.
const discardAfter = 2 * time.Minute

// DiscardUnused removes what the process before has left if nobody asks for it in time.
func (k *Keeper) DiscardUnused() {
	if fdstore.Available() {
		time.AfterFunc(discardAfter, k.discard)
	}
}

func (k *Keeper) discard() {
	if k.asked.Swap(true) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err := k.open()
	if err == nil {
		err = k.store.Clear()
	}
	if err != nil {
		logger().Error("removing what the process before has left", zap.Error(err))
	}
}

// open opens the store, unless it is open.
func (k *Keeper) open() (incomplete, err error) {
	if k.store == nil {
		k.store, incomplete, err = fdstore.Open()
	}
	return incomplete, err
}

// openRemains opens what is in the store.
func (k *Keeper) openRemains() (incomplete, err error) {
	files, err := k.store.Files()
	if err != nil || len(files) == 0 {
		return nil, err
	}
	note := vnicbridge.Note{Text: k.store.Note()}
	if bans := files.Take(bansName); bans == nil {
		incomplete = errors.New("the bans are not there")
	} else {
		k.bans, note.Bans, incomplete = succession.OpenRecord(bans)
	}
	listening := make(succession.Files)
	for name := range files {
		if place, ok := strings.CutPrefix(name, sitesPrefix); ok {
			listening[place] = files.Take(name)
		}
	}
	if incomplete == nil {
		k.remains, incomplete = vnicbridge.OpenRemains(note, files, k.store.Remove)
	}
	if incomplete != nil {
		return incomplete, errors.Join(files.Close(), listening.Close())
	}
	k.Sockets.Inherit(listening)
	return nil, nil
}

// Ready begins to keep files, because the process's configuration has started. If the process has
// taken over from one that has ended, it has now done so for good.
func (k *Keeper) Ready() error {
	if !fdstore.Available() {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keeping {
		return nil
	}
	if _, err := k.open(); err != nil {
		return err
	}
	var err error
	if k.remains != nil {
		err = errors.Join(k.Plane.Confirm(), k.Sockets.Confirm(), k.remains.Close())
		k.remains = nil
	}
	k.keeping = true
	go k.keepOn()
	return err
}

// Inherit takes over the store of a process that gives way to this one.
func (k *Keeper) Inherit(files succession.Files) (err error) {
	if !fdstore.Available() {
		return files.Close()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.store, err = fdstore.Inherit(files)
	return err
}

// Yield ends the keeping, and returns what another process needs for Inherit.
func (k *Keeper) Yield() (succession.Files, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.keeping {
		return nil, nil
	}
	k.keeping = false
	k.kept.Store(false)
	return k.store.Bequeath()
}

func (k *Keeper) keepOn() {
	for ; ; time.Sleep(keepInterval) {
		if !k.Write() {
			return
		}
	}
}

// Write keeps what there is now. It returns false if the keeping has ended.
func (k *Keeper) Write() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.keeping {
		return false
	}
	err := k.write()
	k.kept.Store(err == nil)
	if err != nil {
		k.arranged, k.leavings = [2]uint64{}, vnicbridge.Leavings{}
		if err := k.store.Clear(); err != nil {
			logger().Error("dropping the files that the service manager keeps", zap.Error(err))
		}
	}
	k.tell(err)
	return true
}

// State returns [Kept], or why nothing is kept. It is empty without a service manager that can.
func (k *Keeper) State() string {
	if told := k.told.Load(); told != nil {
		return *told
	}
	return ""
}

// tell logs whether something is kept, if that has changed.
func (k *Keeper) tell(err error) {
	told := Kept
	if err != nil {
		told = err.Error()
	}
	if told == k.State() {
		return
	}
	k.told.Store(&told)
	if err != nil {
		logger().Info("a restart interrupts connections: the service manager keeps no files", zap.NamedError("because", err))
		return
	}
	logger().Info("a restart interrupts no connection to servers that are not Caddy's: the service manager keeps the open files")
}

// write keeps the files if they have changed, and what the next process must know.
func (k *Keeper) write() (err error) {
	arranged := [2]uint64{k.Plane.Arrangement(), k.Sockets.Arrangement()}
	rearranged := arranged != k.arranged && !k.ending
	var files succession.Files
	if rearranged {
		if k.leavings, err = k.Plane.Leavings(); err != nil {
			return err
		}
		files = k.leavings.Files
	}
	note, err := k.Plane.Note(k.leavings, k.note)
	if err == nil {
		err = k.writeBans(note)
	}
	if err == nil && rearranged {
		err = k.addOthers(files)
	}
	if err != nil {
		return errors.Join(err, files.Close())
	}
	k.note = note
	if !rearranged {
		return k.store.SetNote(note.Text)
	}
	k.arranged = arranged
	return k.store.Set(files, note.Text)
}

// addOthers adds the files that are not the plane's.
func (k *Keeper) addOthers(files succession.Files) error {
	for _, of := range []func() (succession.Files, error){k.Sockets.Files, k.Sockets.PacketFiles} {
		sockets, err := of()
		if err != nil {
			return err
		}
		for place, file := range sockets {
			files[sitesPrefix+place] = file
		}
	}
	var err error
	files[bansName], err = succession.Duplicate(k.bans.File, bansName)
	return err
}

// writeBans writes the bans if they have changed.
func (k *Keeper) writeBans(note vnicbridge.Note) (err error) {
	if k.bans == nil {
		if k.bans, err = succession.NewRecord(bansName); err != nil {
			return err
		}
	} else if note.SameBans(k.note) {
		return nil
	}
	return k.bans.Replace(note.Bans)
}

// Leave lets connections wait for the next process, before the servers of this one shut down. If nothing
// is kept it does nothing.
func (k *Keeper) Leave() {
	if !k.Write() || !k.Kept() {
		return
	}
	k.mu.Lock()
	k.ending = true
	k.mu.Unlock()
	k.Sockets.Yield()
}

// Kept tells whether the service manager keeps what there is, so that this process can end without
// removing it.
func (k *Keeper) Kept() bool { return k.kept.Load() }
