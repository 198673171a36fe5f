// Command informers watches ConfigMaps, Secrets and Services of one namespace by a shared informer factory, as controllers
// do (protobuf, client-go's defaults otherwise), and says what it saw. Its arguments: a kubeconfig and the namespace.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"kumulus.dev/interop/record"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(record.Wrap(config))
	if err != nil {
		log.Fatal(err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(os.Args[2]))
	core := factory.Core().V1()
	for kind, informer := range map[string]cache.SharedIndexInformer{
		"ConfigMap": core.ConfigMaps().Informer(),
		"Secret":    core.Secrets().Informer(),
		"Service":   core.Services().Informer(),
	} {
		if _, err := informer.AddEventHandler(record.Handler(kind)); err != nil {
			log.Fatal(err)
		}
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			log.Fatalf("%v did not sync", kind)
		}
	}
	record.Say(record.Line{What: "synced"})
	<-ctx.Done()
	factory.Shutdown()
}
