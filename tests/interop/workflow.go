package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/flyteorg/flyte/flyteidl/gen/pb-go/flyteidl/core"
	"github.com/flyteorg/flyte/flytepropeller/pkg/apis/flyteworkflow/v1alpha1"
	"github.com/flyteorg/flyte/flytepropeller/pkg/compiler"
	"github.com/flyteorg/flyte/flytepropeller/pkg/compiler/common"
	"github.com/flyteorg/flyte/flytepropeller/pkg/compiler/transformers/k8s"
	"github.com/flyteorg/flyte/flytepropeller/pkg/controller/workflowstore"
)

const (
	project      = "interop"
	domain       = "development"
	namespace    = project + "-" + domain
	workflowName = "workflow"
	nodeID       = "n0"
)

// workflowFile is what etcd is to Propeller: the workflow as JSON, the plugin's state in it as gob
// bytes. Every round begins with what was written, so a restart loses what a real one loses.
type workflowFile struct {
	dir  string
	lose func() bool // whether this write is lost, as in a conflict or a crash
}

func (f *workflowFile) path() string { return filepath.Join(f.dir, "workflow.json") }

func (f *workflowFile) exists() bool {
	_, err := os.Stat(f.path())
	return err == nil
}

func (f *workflowFile) Get(_ context.Context, _, _ string) (*v1alpha1.FlyteWorkflow, error) {
	content, err := os.ReadFile(f.path())
	if os.IsNotExist(err) {
		return nil, workflowstore.ErrWorkflowNotFound
	} else if err != nil {
		return nil, err
	}
	w := &v1alpha1.FlyteWorkflow{}
	return w, json.Unmarshal(content, w)
}

// Update answers with what was written and read again: a node that was changed in this round is
// marked so in memory only, and Propeller looks at it again in the next round.
func (f *workflowFile) Update(ctx context.Context, w *v1alpha1.FlyteWorkflow) (*v1alpha1.FlyteWorkflow, error) {
	if f.lose != nil && f.lose() {
		return nil, errors.New("etcdserver: request timed out (as -lose-create asked for)")
	}
	next := w.DeepCopy()
	version, _ := strconv.Atoi(w.ResourceVersion)
	next.ResourceVersion = strconv.Itoa(version + 1)
	content, err := json.Marshal(next)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(f.path()+".tmp", content, 0o600); err != nil {
		return nil, err
	}
	if err := os.Rename(f.path()+".tmp", f.path()); err != nil {
		return nil, err
	}
	return f.Get(ctx, w.Namespace, w.Name)
}

func (f *workflowFile) status(ctx context.Context) (*v1alpha1.WorkflowStatus, error) {
	w, err := f.Get(ctx, namespace, workflowName)
	if err != nil {
		return nil, err
	}
	return &w.Status, nil
}

// markDeleted is how an abort reaches Propeller: flyteadmin deletes the resource, and the
// finalizer holds it until the tasks are cancelled.
func (f *workflowFile) markDeleted(ctx context.Context) error {
	w, err := f.Get(ctx, namespace, workflowName)
	if err != nil {
		return err
	}
	now := metav1.Now()
	w.DeletionTimestamp = &now
	_, err = f.Update(ctx, w)
	return err
}

// createWorkflow compiles a workflow of one node, as flyteadmin does, and stores it.
func createWorkflow(ctx context.Context, f *workflowFile, o options) error {
	task, inputs := &core.TaskTemplate{}, &core.LiteralMap{}
	if err := readProto(o.task, task); err != nil {
		return err
	}
	if o.inputs != "" {
		if err := readProto(o.inputs, inputs); err != nil {
			return err
		}
	}
	compiled, err := compiler.CompileTask(task)
	if err != nil {
		return fmt.Errorf("compile the task: %w", err)
	}
	closure, err := compiler.CompileWorkflow(
		aroundTask(task, o.attempts), nil, []*core.CompiledTask{compiled}, []common.InterfaceProvider{})
	if err != nil {
		return fmt.Errorf("compile the workflow: %w", err)
	}
	execution := &core.WorkflowExecutionIdentifier{Project: project, Domain: domain, Name: o.name}
	w, err := k8s.BuildFlyteWorkflow(closure, inputs, execution, namespace)
	if err != nil {
		return fmt.Errorf("build the workflow: %w", err)
	}
	w.Name = workflowName
	w.ExecutionID = v1alpha1.WorkflowExecutionIdentifier{WorkflowExecutionIdentifier: execution}
	w.CreationTimestamp = metav1.Now()
	w.WorkflowMeta = &v1alpha1.WorkflowMeta{EventVersion: v1alpha1.EventVersion2}
	_, err = f.Update(ctx, w)
	return err
}

func aroundTask(task *core.TaskTemplate, attempts int) *core.WorkflowTemplate {
	var bindings []*core.Binding
	for name := range task.GetInterface().GetInputs().GetVariables() {
		bindings = append(bindings, &core.Binding{Var: name, Binding: &core.BindingData{
			Value: &core.BindingData_Promise{Promise: &core.OutputReference{NodeId: "", Var: name}}}})
	}
	return &core.WorkflowTemplate{
		Id: &core.Identifier{ResourceType: core.ResourceType_WORKFLOW, Project: project,
			Domain: domain, Name: "interop", Version: "1"},
		Interface: &core.TypedInterface{Inputs: task.GetInterface().GetInputs()},
		Nodes: []*core.Node{{
			Id:     nodeID,
			Inputs: bindings,
			Metadata: &core.NodeMetadata{
				Name: nodeID, Retries: &core.RetryStrategy{Retries: uint32(attempts - 1)}}, // #nosec G115
			Target: &core.Node_TaskNode{TaskNode: &core.TaskNode{
				Reference: &core.TaskNode_ReferenceId{ReferenceId: task.GetId()}}},
		}},
	}
}

func readProto(file string, into proto.Message) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return proto.Unmarshal(content, into)
}
