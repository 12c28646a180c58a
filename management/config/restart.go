package config

import "reflect"

// KeepRestart gives next the values that old has wherever a change counts only after a restart (reload:"restart"): what a running program
// may take of a new configuration is what is left. Both point to the same kind of struct.
func KeepRestart(old, next any) {
	keepRestart(reflect.ValueOf(old).Elem(), reflect.ValueOf(next).Elem())
}

func keepRestart(old, next reflect.Value) {
	for i := range next.NumField() {
		f := next.Type().Field(i)
		switch {
		case !f.IsExported():
		case f.Tag.Get("reload") == "restart":
			next.Field(i).Set(old.Field(i))
		case f.Type.Kind() == reflect.Struct:
			keepRestart(old.Field(i), next.Field(i))
		}
	}
}
