// Command reconciler keeps a ConfigMap for every Shelf, by controller-runtime: owned objects and status by server-side apply, a
// finalizer, leader election. It says every event of both kinds, and what it did. Its arguments: a kubeconfig, the namespace,
// and a name for this replica.
package main

import (
	"context"
	"log"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"kumulus.dev/interop/record"
)

const (
	finalizer = "library.example.com/emptied"
	owner     = client.FieldOwner("reconciler")
)

var shelfKind = schema.GroupVersionKind{Group: "library.example.com", Version: "v1", Kind: "Shelf"}

type reconciler struct{ client.Client }

func newShelf() *unstructured.Unstructured {
	shelf := &unstructured.Unstructured{}
	shelf.SetGroupVersionKind(shelfKind)
	return shelf
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	shelf := newShelf()
	if err := r.Get(ctx, request.NamespacedName, shelf); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !shelf.GetDeletionTimestamp().IsZero() {
		if !controllerutil.ContainsFinalizer(shelf, finalizer) {
			return ctrl.Result{}, nil
		}
		books := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: shelf.GetNamespace(), Name: shelf.GetName()}}
		if err := client.IgnoreNotFound(r.Delete(ctx, books)); err != nil {
			return ctrl.Result{}, err
		}
		record.Say(record.Line{What: "finalized", Name: shelf.GetName(), UID: string(shelf.GetUID())})
		before := shelf.DeepCopy()
		controllerutil.RemoveFinalizer(shelf, finalizer)
		return ctrl.Result{}, client.IgnoreNotFound(r.Patch(ctx, shelf, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
	}
	if controllerutil.AddFinalizer(shelf, finalizer) {
		return later(r.Update(ctx, shelf))
	}
	n, _, _ := unstructured.NestedString(shelf.Object, "spec", "n")
	reference := applymeta.OwnerReference().
		WithAPIVersion(shelfKind.GroupVersion().String()).WithKind(shelfKind.Kind).
		WithName(shelf.GetName()).WithUID(shelf.GetUID()).WithController(true).WithBlockOwnerDeletion(true)
	books := applycore.ConfigMap(shelf.GetName(), shelf.GetNamespace()).WithOwnerReferences(reference).WithData(map[string]string{"n": n})
	if err := r.Apply(ctx, books, owner, client.ForceOwnership); err != nil {
		return ctrl.Result{}, err
	}
	status := newShelf()
	status.SetName(shelf.GetName())
	status.SetNamespace(shelf.GetNamespace())
	status.Object["status"] = map[string]any{"n": n}
	return later(r.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(status), owner, client.ForceOwnership))
}

// later tries once more what met a newer object, and lets be what is gone.
func later(err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: 1}, nil
	}
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

func main() {
	namespace, replica := os.Args[2], os.Args[3]
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(os.Stderr)))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)
	ctx := ctrl.SetupSignalHandler()
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	// The server's own flow control is enough.
	config.QPS = -1
	manager, err := ctrl.NewManager(record.Wrap(config), ctrl.Options{
		Cache:                         cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}},
		Metrics:                       server.Options{BindAddress: "0"},
		LeaderElection:                true,
		LeaderElectionID:              "reconciler",
		LeaderElectionNamespace:       namespace,
		LeaderElectionReleaseOnCancel: true,
		// Longer than the API server is away on a busy machine.
		LeaseDuration: ptr.To(90 * time.Second),
		RenewDeadline: ptr.To(75 * time.Second),
		RetryPeriod:   ptr.To(2 * time.Second),
	})
	if err != nil {
		log.Fatal(err)
	}
	for kind, object := range map[string]client.Object{"Shelf": newShelf(), "ConfigMap": &corev1.ConfigMap{}} {
		informer, err := manager.GetCache().GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			log.Fatal(err)
		}
		if _, err := informer.AddEventHandler(record.Handler(kind)); err != nil {
			log.Fatal(err)
		}
	}
	err = ctrl.NewControllerManagedBy(manager).For(newShelf()).Owns(&corev1.ConfigMap{}).Complete(&reconciler{manager.GetClient()})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		if manager.GetCache().WaitForCacheSync(ctx) {
			record.Say(record.Line{What: "synced"})
		}
		select {
		case <-manager.Elected():
			record.Say(record.Line{What: "elected", Name: replica})
		case <-ctx.Done():
		}
	}()
	if err := manager.Start(ctx); err != nil {
		log.Fatal(err)
	}
}
