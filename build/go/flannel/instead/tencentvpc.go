// Package tencentvpc is left out: it belongs to a cloud that is not used, and is the only part that needs its SDK.
package tencentvpc
