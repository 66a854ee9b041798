package keeper

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// confinedName is the base name under which a keeper starts itself again, confined.
const confinedName = LinkName + "-confined"

// handover is what the first image of a keeper process leaves to the second: descriptors, and what it could not do.
type handover struct {
	// Control is connected to the pool.
	Control int `json:"control"`
	// Slot is where the file to read is put; ExifTool opens it as /proc/PID/fd/Slot. Sample is the sample, likewise.
	Slot   int `json:"slot"`
	Sample int `json:"sample"`
	// Gaps say in which ways ExifTool could not be confined.
	Gaps []string `json:"gaps,omitempty"`
}

// enter confines the process and starts its program again, with an environment that holds nothing of the worker's: the
// new image has none of the old one's memory, so neither keeper nor ExifTool has the worker's secrets anywhere.
func enter(dir string) error {
	runtime.LockOSThread() // limits of a thread go with it through exec
	settings, err := loadSettings(dir)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	if err := detach(settings.Parent); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	h, err := prepare(dir)
	if err != nil {
		return err
	}
	if h.Gaps, err = confine(dir, settings); err != nil {
		return err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	argv := []string{filepath.Join(dir, confinedName), string(text)}
	return fmt.Errorf("start confined: %w", syscall.Exec("/proc/self/exe", argv, cleanEnv()))
}

// prepare opens what the confined program could not open, for it to inherit.
func prepare(dir string) (h handover, err error) {
	if h.Control, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0); err != nil {
		return h, fmt.Errorf("control socket: %w", err)
	}
	// The path of a socket may have no more than 107 bytes; this one is below the working directory.
	if err := unix.Connect(h.Control, &unix.SockaddrUnix{Name: controlName}); err != nil {
		return h, fmt.Errorf("control socket: %w", err)
	}
	for _, fd := range []*int{&h.Slot, &h.Sample} {
		if *fd, err = unix.Open(filepath.Join(dir, pixelName), unix.O_RDONLY, 0); err != nil {
			return h, fmt.Errorf("open sample: %w", err)
		}
	}
	if err := os.Symlink(slotPath(os.Getpid(), h.Sample), filepath.Join(dir, sampleName)); err != nil {
		return h, fmt.Errorf("link sample: %w", err)
	}
	return h, nil
}

// inherit takes over what prepare has opened. ExifTool inherits none of it.
func inherit(argument string) (h handover, err error) {
	if err := json.Unmarshal([]byte(argument), &h); err != nil {
		return h, fmt.Errorf("read what is handed over: %w", err)
	}
	for _, fd := range []int{h.Control, h.Slot, h.Sample} {
		unix.CloseOnExec(fd)
	}
	return h, nil
}

func slotPath(pid, fd int) string { return "/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(fd) }
