package differential

import "io"

func writeDifferences(w io.Writer, records []Record) {}
