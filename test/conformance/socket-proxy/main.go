// What upstream's tests run as /hostpathplugin in proxy mode: whoever connects to a Unix socket in the pod speaks to the test, which keeps
// connections to a TCP port open in advance.
package main

import (
	"flag"
	"io"
	"log"
	"net"
	"os"
	"strings"
)

func main() {
	flag.String("v", "", "ignored")
	endpoint := flag.String("endpoint", "", "path of the Unix socket")
	proxy := flag.String("proxy-endpoint", "", "tcp://HOST:PORT")
	flag.Parse()
	path := strings.TrimPrefix(*endpoint, "unix://")
	os.Remove(path)
	sockets, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	tests, err := net.Listen("tcp", strings.TrimPrefix(*proxy, "tcp://"))
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := sockets.Accept()
		if err != nil {
			log.Fatal(err)
		}
		test, err := tests.Accept()
		if err != nil {
			log.Fatal(err)
		}
		join := func(to, from net.Conn) {
			io.Copy(to, from)
			to.Close()
			from.Close()
		}
		go join(client, test)
		go join(test, client)
	}
}
