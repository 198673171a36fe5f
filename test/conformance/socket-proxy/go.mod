module socket-proxy

go 1.26
