// Upstream's program for network policies, but for one thing: it ends when its controller does, so that the kubelet
// starts it again.
//
// Upstream's lives on without one: where a packet of a pod arrives while the controller is opening its queue, that
// fails, what it wrote into the packet filter is taken out again, and nobody notices. Here that would be for good: no
// policy is enforced, and no pod is let through to the API.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

func main() {
	klog.InitFlags(nil)
	node := flag.String("hostname-override", "", "the name of the node that this runs on")
	queue := flag.Int("nfqueue-id", 0, "the number of the queue in which the kernel asks about packets")
	flag.Parse()
	// No signal is caught: what is in the packet filter stays there when a pod is ended, and the kernel, which nobody
	// answers then, lets no packet through until the next one does.
	err := run(context.Background(), networkpolicy.Config{NodeName: *node, QueueID: *queue})
	klog.ErrorS(err, "Network policies are not enforced")
	klog.FlushAndExit(klog.ExitFlushTimeout, 1)
}

// run enforces the cluster's network policies on this node; it returns why it does no longer.
func run(ctx context.Context, config networkpolicy.Config) error {
	access, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	access.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	access.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return err
	}
	known := informers.NewSharedInformerFactory(client, 0)
	policies, namespaces, pods := known.Networking().V1().NetworkPolicies(), known.Core().V1().Namespaces(), known.Core().V1().Pods()
	controller, err := networkpolicy.NewController(client, policies, namespaces, pods, nil, nil, nil, nil, config)
	if err != nil {
		return err
	}
	known.Start(ctx.Done())
	if err := controller.Run(ctx); err != nil {
		return fmt.Errorf("enforcing network policies: %w", err)
	}
	return errors.New("the controller ended")
}
