package queue

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/reshelf/reshelf/shared/archive"
)

// asynqLog writes asynq's messages to slog: what it says about its own comings and goings as debug, its troubles as
// warnings, since the batch's own watch decides what they mean.
type asynqLog struct{ log *slog.Logger }

func (l asynqLog) Debug(args ...any) { l.write(slog.LevelDebug, args) }
func (l asynqLog) Info(args ...any)  { l.write(slog.LevelDebug, args) }
func (l asynqLog) Warn(args ...any)  { l.write(slog.LevelWarn, args) }
func (l asynqLog) Error(args ...any) { l.write(slog.LevelWarn, args) }
func (l asynqLog) Fatal(args ...any) { l.write(slog.LevelError, args) }

func (l asynqLog) write(level slog.Level, args []any) {
	l.log.Log(context.Background(), level, archive.EscapeText(fmt.Sprint(args...)), "from", "asynq")
}

// LogDriver sends the messages of the Redis driver to log, as debug; otherwise the driver writes them to standard
// error, between whatever else is shown there. The driver has one logger for the whole process, so only a main calls
// this, once, before Connect.
func LogDriver(log *slog.Logger) { redis.SetLogger(driverLog{log}) }

type driverLog struct{ log *slog.Logger }

func (l driverLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.DebugContext(ctx, archive.EscapeText(fmt.Sprintf(format, args...)), "from", "go-redis")
}
