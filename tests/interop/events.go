package main

import (
	"context"
	"encoding/base64"
	"encoding/json"

	golangproto "github.com/golang/protobuf/proto" //nolint:staticcheck // what events.EventSink asks for
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/flyteorg/flyte/flyteidl/gen/pb-go/flyteidl/core"
	"github.com/flyteorg/flyte/flyteidl/gen/pb-go/flyteidl/event"
	"github.com/flyteorg/flyte/flytestdlib/storage"
)

// eventSink stands where flyteadmin is: it prints what a user would come to see.
type eventSink struct {
	out  *report
	data *storage.DataStore
}

func (s *eventSink) Sink(ctx context.Context, message golangproto.Message) error {
	switch e := message.(type) {
	case *event.TaskExecutionEvent:
		return s.task(ctx, e)
	case *event.NodeExecutionEvent:
		s.out.write("node", map[string]any{
			"node": e.GetId().GetNodeId(), "phase": e.GetPhase().String(), "error": failure(e.GetError())})
	case *event.WorkflowExecutionEvent:
		s.out.write("workflow", map[string]any{
			"phase": e.GetPhase().String(), "error": failure(e.GetError())})
	}
	return nil
}

func (s *eventSink) Close() error { return nil }

func (s *eventSink) task(ctx context.Context, e *event.TaskExecutionEvent) error {
	links := []map[string]string{}
	for _, link := range e.GetLogs() {
		links = append(links, map[string]string{"name": link.GetName(), "uri": link.GetUri()})
	}
	reasons := []string{}
	for _, reason := range e.GetReasons() {
		reasons = append(reasons, reason.GetReason())
	}
	fields := map[string]any{
		"phase": e.GetPhase().String(), "version": e.GetPhaseVersion(), "attempt": e.GetRetryAttempt(),
		"reasons": reasons, "links": links, "error": failure(e.GetError()),
		"plugin": e.GetMetadata().GetPluginIdentifier(),
	}
	if e.GetCustomInfo() != nil {
		info, err := protojson.Marshal(e.GetCustomInfo())
		if err != nil {
			return err
		}
		fields["custom_info"] = json.RawMessage(info)
	}
	if uri := e.GetOutputUri(); uri != "" {
		outputs := &core.LiteralMap{}
		if err := s.data.ReadProtobuf(ctx, storage.DataReference(uri), outputs); err == nil {
			content, err := proto.Marshal(outputs)
			if err != nil {
				return err
			}
			fields["outputs"] = base64.StdEncoding.EncodeToString(content)
		}
		fields["output_uri"] = uri
	}
	s.out.write("task", fields)
	return nil
}

func failure(e *core.ExecutionError) map[string]string {
	if e == nil {
		return nil
	}
	return map[string]string{"code": e.GetCode(), "kind": e.GetKind().String(), "message": e.GetMessage()}
}
