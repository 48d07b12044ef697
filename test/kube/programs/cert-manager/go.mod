module certctl.test/cert-manager

go 1.25.0
