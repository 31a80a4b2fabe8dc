module courier.dev/client

go 1.22
