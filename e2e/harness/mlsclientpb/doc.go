// Package mlsclientpb is the generated code for the service MLSClient of the
// MLS working group's interop harness. mls_client.proto says what its
// messages mean.
package mlsclientpb

//go:generate go build -o ../../../.bin/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
//go:generate protoc --plugin=../../../.bin/protoc-gen-go --plugin=../../../.bin/protoc-gen-go-grpc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative mls_client.proto
