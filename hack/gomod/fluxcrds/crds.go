// Package fluxcrds names the APIs of Flux whose CustomResourceDefinitions the tests need. They are generated from the types of
// the APIs, as Flux' own makefiles do.
package fluxcrds

import (
	_ "github.com/fluxcd/helm-controller/api/v2"
	_ "github.com/fluxcd/kustomize-controller/api/v1"
	_ "github.com/fluxcd/notification-controller/api/v1beta3"
	_ "github.com/fluxcd/source-controller/api/v1"
)
