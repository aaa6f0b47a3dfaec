package main

import (
	"context"
	"path"
	"sync"
	"time"
	_ "unsafe" // for go:linkname

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// The plugin opens its own connections and takes no interceptor. grpc-go keeps this hook for its
// observability module.
//
//go:linkname addGlobalDialOptions google.golang.org/grpc/internal.AddGlobalDialOptions
var addGlobalDialOptions any

// calls reports each RPC when it ends and counts them by method and code.
type calls struct {
	out  *report
	mu   sync.Mutex
	open int
	by   map[string]map[string]int
}

func recordCalls(out *report) *calls {
	c := &calls{out: out, by: map[string]map[string]int{}}
	addGlobalDialOptions.(func(...grpc.DialOption))(grpc.WithStatsHandler(c))
	return c
}

func (c *calls) counts() map[string]map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := map[string]map[string]int{}
	for method, codes := range c.by {
		counts[method] = map[string]int{}
		for code, n := range codes {
			counts[method][code] = n
		}
	}
	return counts
}

// wait for the calls that are open: a stream whose reader has seen enough ends with its context, a
// moment after the round that it belongs to.
func (c *calls) wait(limit time.Duration) {
	for end := time.Now().Add(limit); c.change(0) > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
}

// change counts calls that begin and end, and says how many are open.
func (c *calls) change(by int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += by
	return c.open
}

func (c *calls) total(method string) (n int) {
	for _, m := range c.counts()[method] {
		n += m
	}
	return n
}

type methodKey struct{}

func (c *calls) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, methodKey{}, path.Base(info.FullMethodName))
}

func (c *calls) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.Begin); ok {
		c.change(1)
		return
	}
	end, ok := s.(*stats.End)
	if !ok {
		return
	}
	defer c.change(-1) // not before its line is written
	method, code := ctx.Value(methodKey{}).(string), status.Code(end.Error).String()
	c.mu.Lock()
	if c.by[method] == nil {
		c.by[method] = map[string]int{}
	}
	c.by[method][code]++
	c.mu.Unlock()
	c.out.write("call", map[string]any{
		"method": method, "code": code, "seconds": end.EndTime.Sub(end.BeginTime).Seconds(),
	})
}

func (c *calls) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c *calls) HandleConn(context.Context, stats.ConnStats)                       {}
