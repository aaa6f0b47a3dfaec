package main

import (
	"context"

	"k8s.io/client-go/tools/record"

	"github.com/flyteorg/flyte/flytepropeller/pkg/apis/flyteworkflow/v1alpha1"
	"github.com/flyteorg/flyte/flytepropeller/pkg/controller"
	propellerconfig "github.com/flyteorg/flyte/flytepropeller/pkg/controller/config"
	"github.com/flyteorg/flyte/flytepropeller/pkg/controller/nodes"
	"github.com/flyteorg/flyte/flytepropeller/pkg/controller/nodes/catalog"
	"github.com/flyteorg/flyte/flytepropeller/pkg/controller/nodes/factory"
	"github.com/flyteorg/flyte/flytepropeller/pkg/controller/nodes/recovery"
	"github.com/flyteorg/flyte/flytepropeller/pkg/controller/nodes/subworkflow/launchplan"
	"github.com/flyteorg/flyte/flytepropeller/pkg/controller/workflow"
	"github.com/flyteorg/flyte/flytepropeller/pkg/controller/workflowstore"
	"github.com/flyteorg/flyte/flytestdlib/contextutils"
	"github.com/flyteorg/flyte/flytestdlib/promutils"
	"github.com/flyteorg/flyte/flytestdlib/promutils/labeled"
	"github.com/flyteorg/flyte/flytestdlib/storage"
)

type propeller struct {
	handler  *controller.Propeller
	enqueued chan struct{}
}

// newPropeller puts the parts together as controller.New does, less what needs a cluster: there is
// no Kubernetes client, no flyteadmin and no catalog, none of which a connector task touches.
func newPropeller(ctx context.Context, workflows workflowstore.FlyteWorkflow, data *storage.DataStore, events *eventSink) (*propeller, error) {
	cfg := propellerconfig.GetConfig()
	labeled.SetMetricKeys(contextutils.MetricKeysFromStrings(cfg.MetricKeys)...)
	scope := promutils.NewScope("interop")
	p := &propeller{enqueued: make(chan struct{}, 1)}
	enqueue := func(v1alpha1.WorkflowID) {
		select {
		case p.enqueued <- struct{}{}:
		default:
		}
	}
	launchPlans := launchplan.NewFailFastLaunchPlanExecutor()
	recoveryClient, noCatalog := recovery.NewClient(nil), catalog.NOOPCatalog{}
	handlers, err := factory.NewHandlerFactory(ctx, launchPlans, launchPlans, nil, nil, noCatalog,
		recoveryClient, &cfg.EventConfig, cfg.LiteralOffloadingConfig, cfg.ClusterID, nil, scope)
	if err != nil {
		return nil, err
	}
	rawOutputs := storage.DataReference(string(data.GetBaseContainerFQN(ctx)) + "/raw")
	nodeExecutor, err := nodes.NewExecutor(ctx, cfg.NodeConfig, data, enqueue, events, launchPlans,
		launchPlans, rawOutputs, nil, noCatalog, recoveryClient, cfg.LiteralOffloadingConfig,
		&cfg.EventConfig, cfg.ClusterID, nil, handlers, scope)
	if err != nil {
		return nil, err
	}
	running, err := workflowstore.NewExecutionStatsHolder()
	if err != nil {
		return nil, err
	}
	executor, err := workflow.NewExecutor(ctx, data, enqueue, events, &record.FakeRecorder{},
		cfg.MetadataPrefix, nodeExecutor, &cfg.EventConfig, cfg.ClusterID, scope, running)
	if err != nil {
		return nil, err
	}
	p.handler = controller.NewPropellerHandler(ctx, cfg, data, workflows, executor, scope)
	// Here Propeller registers and loads its plugins, and asks every endpoint for its task types.
	return p, p.handler.Initialize(ctx)
}
