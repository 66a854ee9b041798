// Package queue moves tasks from those who plan work to the workers that do it, through Redis. It is the only importer
// of asynq and knows nothing of ledgers or of the life of a batch.
//
// Asynq is only the carrier, and what it promises is not relied on:
//
//   - Handlers always end well for asynq, and tasks are enqueued with no retries. Every retry is a new task with a new
//     attempt number, enqueued by whoever watches over the batch.
//   - Handlers get a context of their own. Asynq's ends when Redis has been silent for about 37 s, and asynq then starts
//     other tasks beside the handlers that still run. [Consumer] counts its slots itself.
//   - A task may be delivered twice, late, or never. It gives no right to work.
//
// The tasks of a worker that died end in asynq's archive, or as ids that no lease covers; [Queues.Sweep] removes both.
//
// Queues are named <prefix>-<pool>-<priority>, see [QueueName]. Payloads are the frozen JSON of [batch.Task]; W3C trace
// context travels in the tasks' headers.
package queue
