package queue_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/batch"
	"github.com/reshelf/reshelf/shared/queue"
)

// A killed consumer's task stays with asynq until its lease is over. The next attempt does not wait for that, and what
// asynq then archives is swept.
func TestKilledConsumer(t *testing.T) {
	s, client := connect(t)
	enqueue(t, client, task(0, 1))
	killWhileWorking(t, s.URL())
	if got := queueInfo(t, client).Active; got != 1 {
		t.Fatalf("got %d active tasks, want the dead one's", got)
	}

	ran := make(chan batch.Task, 1)
	c := consume(t, client, queue.ConsumerOptions{Slots: 1}, func(_ context.Context, task batch.Task) { ran <- task })
	enqueue(t, client, task(0, 2))
	if got := receive(t, "the next attempt runs", ran); got != task(0, 2) {
		t.Errorf("got %+v, want the second attempt", got)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	// Asynq's recoverer looks once at its start, for leases that ended more than 30 s ago.
	past := redis.Z{Score: float64(time.Now().Add(-time.Hour).Unix()), Member: task(0, 1).ID()}
	if err := client.ZAdd(t.Context(), "asynq:{"+queueName+"}:lease", past).Err(); err != nil {
		t.Fatal(err)
	}
	consume(t, client, queue.ConsumerOptions{Slots: 1}, func(context.Context, batch.Task) { t.Error("the dead one's task ran again") })
	eventually(t, "asynq archives the dead one's task", func() bool { return queueInfo(t, client).Archived == 1 })
	swept, err := queue.NewQueues(client, prefix).Sweep(t.Context())
	if want := (queue.Swept{Archived: 1}); err != nil || swept != want {
		t.Errorf("sweep: got %+v, %v, want %+v", swept, err, want)
	}
	if got := queueInfo(t, client).Size; got != 0 {
		t.Errorf("got %d tasks after the sweep, want 0", got)
	}
	if n := client.Exists(t.Context(), "asynq:{"+queueName+"}:t:"+task(0, 1).ID()).Val(); n != 0 {
		t.Error("the archived task's hash is still there")
	}
}

func killWhileWorking(t *testing.T, url string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), consumerEnv+"="+url)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(out).ReadString('\n')
		line <- text
	}()
	if got := receive(t, "the child works", line); got != "working\n" {
		t.Fatalf("the child says %q", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

func TestSweepLeavesOthersAlone(t *testing.T) {
	_, client := connect(t)
	ctx := t.Context()
	for _, name := range []string{"other-nas-normal", "reshelf-nas-urgent", "reshelf2-nas-normal"} {
		client.SAdd(ctx, "asynq:queues", name)
		client.ZAdd(ctx, "asynq:{"+name+"}:archived", redis.Z{Member: "x"})
	}
	enqueue(t, client, tasks(3)...)
	swept, err := queue.NewQueues(client, prefix).Sweep(ctx)
	if err != nil || swept != (queue.Swept{}) {
		t.Errorf("got %+v, %v, want nothing swept", swept, err)
	}
	if got := queueInfo(t, client).Pending; got != 3 {
		t.Errorf("got %d pending tasks, want 3", got)
	}
}
