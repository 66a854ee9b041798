package s3store

import (
	"net"
	"time"
)

// dialer gives up soon on a server that does not answer: it is asked again anyway.
func dialer() *net.Dialer { return &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second} }
