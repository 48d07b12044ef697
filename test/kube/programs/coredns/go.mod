module certctl.test/coredns

go 1.25.0
