// Package record tells, one JSON object a line on standard output, what a client saw: requests and events.
package record

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"sync"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	corev1 "k8s.io/api/core/v1"
)

// Line is one thing that was seen.
type Line struct {
	// What is add, update, delete, request, or a word of the program's own.
	What string `json:"what"`
	Kind string `json:"kind,omitempty"`
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
	// RV is the resource version of the event's object, Old that of the object it replaced.
	RV  string `json:"rv,omitempty"`
	Old string `json:"old,omitempty"`
	// N counts the writer's changes of the object.
	N string `json:"n,omitempty"`
	// Initial marks the objects of the first list.
	Initial bool `json:"initial,omitempty"`
	// Unknown marks a deletion that was found out by listing again.
	Unknown bool `json:"unknown,omitempty"`
	// Verb of a request: list, watch, or watchlist for a watch that begins with all objects.
	Verb   string `json:"verb,omitempty"`
	Status int    `json:"status,omitempty"`
	Type   string `json:"type,omitempty"`
	From   string `json:"from,omitempty"`
}

var mutex sync.Mutex

// Say writes a line.
func Say(line Line) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	mutex.Lock()
	defer mutex.Unlock()
	_, _ = os.Stdout.Write(append(text, '\n'))
}

// nOf is what the writer counted: data.n of ConfigMaps and Secrets, the annotation n of others.
func nOf(object any) string {
	switch o := object.(type) {
	case *corev1.ConfigMap:
		return o.Data["n"]
	case *corev1.Secret:
		return string(o.Data["n"])
	case *unstructured.Unstructured:
		n, _, _ := unstructured.NestedString(o.Object, "spec", "n")
		return n
	}
	accessor, err := apimeta.Accessor(object)
	if err != nil {
		return ""
	}
	return accessor.GetAnnotations()["n"]
}

func of(what, kind string, object any) Line {
	line := Line{What: what, Kind: kind}
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		line.Unknown = true
		object = tombstone.Obj
	}
	accessor, err := apimeta.Accessor(object)
	if err != nil {
		panic(err)
	}
	line.Name, line.UID, line.RV, line.N = accessor.GetName(), string(accessor.GetUID()), accessor.GetResourceVersion(), nOf(object)
	return line
}

// Handler says every event of a kind.
func Handler(kind string) cache.ResourceEventHandlerDetailedFuncs {
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, initial bool) {
			line := of("add", kind, object)
			line.Initial = initial
			Say(line)
		},
		UpdateFunc: func(old, object any) {
			line := of("update", kind, object)
			if before, ok := old.(metav1.Object); ok {
				line.Old = before.GetResourceVersion()
			}
			Say(line)
		},
		DeleteFunc: func(object any) { Say(of("delete", kind, object)) },
	}
}

type transport struct{ http.RoundTripper }

// RoundTrip says which lists and watches were asked for, and how they were answered.
func (t transport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.RoundTripper.RoundTrip(request)
	query := request.URL.Query()
	path := strings.Split(strings.TrimPrefix(request.URL.Path, "/"), "/")
	resource := path[len(path)-1]
	// Of collections alone: /api/v1/namespaces/NS/RESOURCE, /apis/GROUP/VERSION/namespaces/NS/RESOURCE.
	collection := (path[0] == "api" && len(path) == 5) || (path[0] == "apis" && len(path) == 6)
	if request.Method == http.MethodGet && collection {
		line := Line{What: "request", Kind: resource, Verb: "list", From: query.Get("resourceVersion")}
		if query.Get("watch") != "" && query.Get("watch") != "false" {
			line.Verb = "watch"
			if query.Get("sendInitialEvents") == "true" {
				line.Verb = "watchlist"
			}
		}
		if err == nil {
			line.Status, line.Type = response.StatusCode, response.Header.Get("Content-Type")
		}
		Say(line)
	}
	return response, err
}

// Wrap makes a configuration's clients say their requests.
func Wrap(config *rest.Config) *rest.Config {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return transport{next} })
	return config
}
