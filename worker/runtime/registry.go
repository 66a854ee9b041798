package runtime

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/reshelf/reshelf/shared/ledger"
	"github.com/reshelf/reshelf/worker/internal/exiftool"
)

// rates turns counts that only grow into averages over the last seconds. It is used by one goroutine.
type rates struct {
	at             time.Time
	objects, bytes int64
	perSecond      [2]float64
}

// weight of the newest second in the average.
const weight = 0.2

// see takes the counts of now and returns objects and bytes a second.
func (r *rates) see(objects, bytes int64) (float64, float64) {
	now := time.Now()
	if elapsed := now.Sub(r.at).Seconds(); !r.at.IsZero() && elapsed > 0 {
		for i, n := range []int64{objects - r.objects, bytes - r.bytes} {
			r.perSecond[i] += weight * (float64(n)/elapsed - r.perSecond[i])
		}
	}
	r.at, r.objects, r.bytes = now, objects, bytes
	return r.perSecond[0], r.perSecond[1]
}

// describe describes ExifTool's processes, and the memory of all processes of this worker.
func describe(s exiftool.Status) (processes []ledger.ExifToolProcess, memory int64) {
	memory = resident(os.Getpid())
	for _, p := range s.Processes {
		processes = append(processes, ledger.ExifToolProcess{PID: p.ExifTool, Level: p.Level, Version: p.Version, Restarts: p.Restarts})
		memory += resident(p.Keeper) + resident(p.ExifTool)
	}
	return processes, memory
}

// resident is the second field of /proc/<pid>/statm (proc_pid_statm(5)) in bytes, 0 for a process that is gone.
func resident(pid int) int64 {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
