package systemtest

import (
	"bytes"
	stdcmp "cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/reshelf/reshelf/shared/archive"
	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/store"
	"github.com/reshelf/reshelf/shared/store/s3store/s3test"
)

// TestStoreGoesAway stops the servers of archive and ledger in the middle of an inspection and of a rename: only that time is
// lost, and nobody has to resume anything.
func TestStoreGoesAway(t *testing.T) {
	usual := "15s"
	if withAll() {
		usual = "60s"
	}
	away, err := time.ParseDuration(stdcmp.Or(os.Getenv("RESHELF_OUTAGE"), usual))
	if err != nil {
		t.Fatal(err)
	}
	f := newFleetAt(t, programs, newPlace(t, 300, true, true))
	before := f.draw(f.files)
	identities := f.identities()
	f.start("w1")
	f.start("w2")
	command := f.spawn(f.bin.reshelf, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "rename", f.archive.String(), template,
		"--on-conflict", "number", "--yes")
	f.wait(20*time.Second, "the batch", func() bool { command.alive(t); return f.newest() != "" })
	id := f.newest()
	for _, step := range []batch.Step{batch.StepInspect, batch.StepRename} {
		f.claimed(id, step)
		f.server.Stop()
		f.ledgers.Stop()
		outage, cancel := context.WithTimeout(f.ctx(), away)
		<-outage.Done()
		cancel()
		f.ledgers.Start()
		f.server.Start()
	}
	if s := f.over(id, 3*time.Minute); s.State != batch.Complete {
		t.Fatalf("batch is %v: %s", s, s.Reason)
	}
	<-command.done
	if code := command.cmd.ProcessState.ExitCode(); code != 1 { // some have no date
		t.Errorf("rename: exit %d, want 1\n%s", code, tail(command.out.String(), 2000))
	}
	f.checkRecords(id, len(before), before)
	f.checkNames(id, before, f.sums())
	f.undo(id, before)
	f.checkVersions(identities)
}

// TestArchiveOrLedgerInABucket inspects, renames and undoes where one of the two is in a bucket and the other a folder.
func TestArchiveOrLedgerInABucket(t *testing.T) {
	mixed(t, 60, func(t *testing.T, at place) {
		f := newFleetAt(t, programs, at)
		before := f.draw(at.files)
		identities := f.identities()
		f.start("w1")
		for _, args := range [][]string{
			{"inspect", f.archive.String(), "--digests", "sha256", "--all"},
			{"rename", f.archive.String(), template, "--on-conflict", "number", "--yes"},
		} {
			out, code := f.reshelf(args...)
			if code > 1 {
				t.Fatalf("%s: exit %d\n%s", args[0], code, out)
			}
			f.checkRecords(f.newest(), len(before), before)
		}
		renamed := f.sums()
		if maps.Equal(renamed, before) {
			t.Error("nothing was renamed")
		}
		f.checkNames(f.newest(), before, renamed)
		f.undo(f.newest(), before)
		f.checkVersions(identities)
	})
}

// TestChainsInABucket renumbers objects by one, and lets others go round in a circle, while workers are killed. Those that follow go on
// from wherever the objects are, and an undo brings all back.
func TestChainsInABucket(t *testing.T) {
	at := newPlace(t, 0, false, false)
	at.server = s3test.Versity(t) // with versions, a name that was deleted counts as taken there
	at.archive = bucket(t, at.server, "frames")
	f := newFleetAt(t, programs, at)
	manifest := f.putFrames(40, 12)
	before := f.sums()
	f.start("w1")
	command := f.spawn(f.bin.reshelf, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "rename", f.archive.String(), "{csv:to}{ext}",
		"--manifest", manifest, "--yes")
	f.wait(20*time.Second, "the batch", func() bool { command.alive(t); return f.newest() != "" })
	id := f.newest()
	f.claimed(id, batch.StepRename)
	for _, next := range []string{"w2", "w3"} {
		moving := f.names()
		f.wait(time.Minute, "objects to move", func() bool { return !slices.Equal(moving, f.names()) || f.status(id).State.Over() })
		victim := "w" + string(next[1]-1)
		f.kill(victim)
		f.start(next)
	}
	if s := f.over(id, 3*time.Minute); s.State != batch.Complete {
		t.Fatalf("batch is %v: %s", s, s.Reason)
	}
	<-command.done
	after := f.sums()
	if len(after) != len(before) || after["n041.txt"] != before["n040.txt"] || after["n002.txt"] != before["n001.txt"] || after["c01.txt"] != before["c12.txt"] {
		t.Errorf("after the rename:\n%s", tail(cmp.Diff(before, after), 3000))
	}
	f.checkNames(id, before, after)
	f.undo(id, before)
}

// TestCopiesOnAFleet copies objects to new names while a worker is killed. All objects stay as they are, and each copy is of the one that the
// records name.
func TestCopiesOnAFleet(t *testing.T) {
	for name, inBucket := range map[string]bool{"Local": false, "ArchiveInBucket": true} {
		t.Run(name, func(t *testing.T) {
			f := newFleetAt(t, programs, newPlace(t, 150, inBucket, false))
			before := f.draw(f.files)
			f.start("w1")
			command := f.spawn(f.bin.reshelf, "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "rename", f.archive.String(), "copies/"+template,
				"--copy", "--on-conflict", "number", "--yes")
			f.wait(20*time.Second, "the batch", func() bool { command.alive(t); return f.newest() != "" })
			id := f.newest()
			f.kill(f.claimed(id, batch.StepRename))
			f.start("w2")
			if s := f.over(id, 3*time.Minute); s.State != batch.Complete {
				t.Fatalf("batch is %v: %s", s, s.Reason)
			}
			<-command.done
			want, copies := maps.Clone(before), 0
			for _, r := range f.finals(id) {
				if r.Copy != "" {
					want[string(r.Copy)] = before[string(r.Key)]
					copies++
				}
			}
			if diff := cmp.Diff(want, f.sums()); diff != "" || copies < len(before)/2 {
				t.Errorf("%d copies of %d objects; the records (-) and the archive (+) differ:\n%s", copies, len(before), tail(diff, 4000))
			}
			if out, code := f.reshelf("undo", string(id), "--yes"); code == 0 || !strings.Contains(out, "copied") {
				t.Errorf("undo of copies: exit %d\n%s", code, out)
			}
		})
	}
}

// putFrames puts a chain of n objects, n001.txt to be n002.txt and so on, and a circle of c01.txt and so on, and returns a manifest with
// their new names.
func (f *fleet) putFrames(n, circle int) (manifest string) {
	f.t.Helper()
	var table strings.Builder
	table.WriteString("key,to\n")
	st := f.openArchive()
	defer st.Close()
	put := func(name, to string) {
		f.must(st.Create(f.ctx(), archive.Key(name+".txt"), strings.NewReader("frame "+name)))
		fmt.Fprintf(&table, "%s.txt,%s\n", name, to)
	}
	for i := 1; i <= n; i++ {
		put(fmt.Sprintf("n%03d", i), fmt.Sprintf("n%03d", i+1))
	}
	for i := range circle {
		put(fmt.Sprintf("c%02d", i+1), fmt.Sprintf("c%02d", (i+1)%circle+1))
	}
	manifest = filepath.Join(f.t.TempDir(), "names.csv")
	f.must(os.WriteFile(manifest, []byte(table.String()), 0o644))
	return manifest
}

// names are those of all objects.
func (f *fleet) names() (out []archive.Key) {
	f.t.Helper()
	st := f.openArchive()
	defer st.Close()
	for e, err := range st.List(f.ctx(), store.ListOptions{}) {
		f.must(err)
		out = append(out, e.Key)
	}
	return out
}

// debug are the flags that make commands say all they can.
func debug(args ...string) []string { return append([]string{"--log-level", "debug"}, args...) }

// TestSecretsStayHome looks for the secrets of both servers in everything that a whole run leaves or says.
func TestSecretsStayHome(t *testing.T) {
	f := newFleetAt(t, programs, newPlace(t, 40, true, true))
	f.draw(f.files)
	monitor := f.monitor()
	f.start("w1", "--log-level", "debug")
	secrets := map[string]string{"archive": f.server.SecretKey, "ledger": f.ledgers.SecretKey}
	places := f.wholeRun()
	maps.Copy(places, f.refusals())
	places["worker"], places["what Redis holds"], places["what Redis was told"] = f.workers["w1"].out.String(), f.inRedis(), monitor.out.String()
	if !strings.Contains(places["worker"], "DEBUG") {
		t.Errorf("the worker says nothing of level debug:\n%s", tail(places["worker"], 1000))
	}
	for key, text := range f.contents(f.ledger, func(c *store.Content) (string, error) {
		raw, err := io.ReadAll(c)
		return string(raw) + inflated(raw), err
	}) {
		places["ledger: "+key] = key + text
	}
	readable := 0
	for name, text := range places {
		if strings.HasPrefix(name, "ledger: ") && strings.Contains(text, "IMG_00001.jpg") {
			readable++
		}
		for whose, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds the secret key of the server of the %s", name, whose)
			}
		}
	}
	if readable < 3 { // listing, inspection, plan: the search saw what is compressed
		t.Errorf("%d objects of the ledger tell of a file, of %d places", readable, len(places))
	}
}

// wholeRun runs every command that tells of a batch, and returns what each of them said.
func (f *fleet) wholeRun() map[string]string {
	f.t.Helper()
	said := map[string]string{}
	run := func(most int, args ...string) {
		out, code := f.reshelf(debug(args...)...)
		if code > most {
			f.t.Errorf("%s: exit %d, want at most %d\n%s", args, code, most, tail(out, 2000))
		}
		said[strings.Join(args, " ")] = out
	}
	run(0, "doctor", f.archive.String())
	run(1, "inspect", f.archive.String(), "--json")
	run(1, "rename", f.archive.String(), template, "--on-conflict", "number", "--yes")
	id := string(f.newest())
	run(1, "watch", id)
	for _, args := range [][]string{
		{"show", id}, {"show", id, "--json"}, {"plan", id}, {"report", id}, {"report", id, "--format", "jsonl"}, {"list"}, {"workers"},
		{"workers", "--json"}, {"undo", id, "--yes"},
	} {
		run(0, args...)
	}
	return said
}

// refusals are what commands say to a secret where none belongs, and to a wrong one.
func (f *fleet) refusals() map[string]string {
	f.t.Helper()
	said := map[string]string{}
	secret := f.server.SecretKey
	for _, url := range []string{
		"s3://AK:" + secret + "@bucket/x", "s3://" + secret + "@bucket/x", "s3://bucket/x?secret=" + secret, "s3://bucket/x?profile=a&aws_secret_access_key=" + secret,
		"s3://bucket/x?endpoint=http://AK:" + secret + "@127.0.0.1:9000",
	} {
		for _, args := range [][]string{{"inspect", url}, {"rename", url, template}, {"doctor", url}, {"list", "--ledger", url}} {
			out, code := f.reshelf(debug(args...)...)
			if code != 2 {
				f.t.Errorf("%s: exit %d, want 2\n%s", args, code, out)
			}
			said["refusal of "+strings.Join(args[:1], "")+" "+strings.ReplaceAll(url, secret, "SECRET")] = out
		}
		worker := f.spawn(f.bin.worker, "--log-level", "debug", "--redis", f.redis.URL(), "--ledger", f.ledger.String(), "--root", url, "--listen", "127.0.0.1:0")
		<-worker.done
		if worker.err == nil {
			f.t.Errorf("a worker with the root %s ended well", url)
		}
		said["worker's refusal of "+strings.ReplaceAll(url, secret, "SECRET")] = worker.out.String()
	}
	f.wrongCredentials(said)
	return said
}

// wrongCredentials adds what is said where a secret is wrong to said. It has the right one in it, as a typing error would.
func (f *fleet) wrongCredentials(said map[string]string) {
	f.t.Helper()
	wrong := func(r archive.Root, s *s3test.Server) string {
		profile := "wrong-" + s.AccessKey
		f.must(addProfile(&s3test.Server{AccessKey: s.AccessKey, SecretKey: s.SecretKey + "X"}, profile))
		return strings.Replace(r.String(), "profile="+s.AccessKey, "profile="+profile, 1)
	}
	photos, ledger := wrong(f.archive, f.server), wrong(f.ledger, f.ledgers)
	check := func(who, out string, code int) {
		if code == 0 || !strings.Contains(out, "credentials") {
			f.t.Errorf("%s with wrong credentials: exit %d\n%s", who, code, out)
		}
		said[who+" with wrong credentials"] = out
	}
	for _, args := range [][]string{{"doctor", photos}, {"list", "--ledger", ledger}, {"inspect", f.archive.String(), "--ledger", ledger}} {
		out, code := f.reshelf(debug(args...)...)
		check(args[0], out, code)
	}
	worker := f.spawn(f.bin.worker, "--log-level", "debug", "--redis", f.redis.URL(), "--ledger", ledger, "--root", f.archive.String(), "--listen", "127.0.0.1:0")
	<-worker.done
	check("worker", worker.out.String(), worker.cmd.ProcessState.ExitCode())
}

// inflated is the content of all zstd frames in an object: the ledger's parts have a header before theirs, and a catalogue
// one for each page.
func inflated(raw []byte) string {
	var all strings.Builder
	for magic := []byte{0x28, 0xb5, 0x2f, 0xfd}; ; raw = raw[len(magic):] {
		i := bytes.Index(raw, magic)
		if i < 0 {
			return all.String()
		}
		raw = raw[i:]
		if r, err := zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderConcurrency(1)); err == nil {
			_, _ = io.Copy(&all, r) // until what follows is no frame
			r.Close()
		}
	}
}

// monitor collects everything that Redis is told from now on.
func (f *fleet) monitor() *process {
	f.t.Helper()
	p := f.spawn("redis-cli", "-u", f.redis.URL(), "MONITOR")
	f.t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.done })
	f.wait(10*time.Second, "the monitor of Redis", func() bool { p.alive(f.t); return strings.HasPrefix(p.out.String(), "OK") })
	return p
}

// inRedis is all that Redis holds, as redis-cli prints it.
func (f *fleet) inRedis() string {
	f.t.Helper()
	script := `local out = {}
for _, k in ipairs(redis.call('KEYS', '*')) do
  local t, v = redis.call('TYPE', k).ok
  if t == 'string' then v = {redis.call('GET', k)}
  elseif t == 'hash' then v = redis.call('HGETALL', k)
  elseif t == 'list' then v = redis.call('LRANGE', k, 0, -1)
  elseif t == 'set' then v = redis.call('SMEMBERS', k)
  elseif t == 'zset' then v = redis.call('ZRANGE', k, 0, -1)
  else error('no way to read a ' .. t) end
  out[#out + 1] = k .. ' ' .. table.concat(v, ' ')
end
return table.concat(out, '\n')`
	out, err := exec.CommandContext(f.ctx(), "redis-cli", "-u", f.redis.URL(), "EVAL", script, "0").CombinedOutput()
	f.must(err)
	if !strings.Contains(string(out), "reshelf") {
		f.t.Fatal(fmt.Errorf("Redis holds nothing of Reshelf's: %s", out))
	}
	return string(out)
}
