package array

import "github.com/go-json-experiment/json/jsontext"

func parseZarrName(name string, big bool) (DType, error) {
	quoted, err := jsontext.AppendQuote(nil, name)
	if err != nil {
		return DType{}, err
	}
	return ParseZarrType(quoted, big)
}
