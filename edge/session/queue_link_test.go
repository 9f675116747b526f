package session

import "testing"

func TestCallerClaimIsReadAsItIsWritten(t *testing.T) {
	want := callerClaim{entry: "wait_01", claim: 7, leg: "call_02"}
	if got, ok := parseCallerClaim(want.String()); !ok || got != want {
		t.Errorf("%q is read as %+v", want, got)
	}
	want.agent = "agent_03"
	if got, ok := parseCallerClaim(want.String()); !ok || got != want {
		t.Errorf("%q is read as %+v", want, got)
	}
	for _, value := range []string{
		"wait_01;claim=7;leg=call_02;agent=", "wait_01;claim=7;leg=call_02;agent=03", "wait_01;claim=7;leg=call_02;agent=agent_03;agent=agent_04",
		"", "wait_01", "wait_01;claim=7", "wait_01;claim=;leg=call_02", "wait_01;claim=0;leg=call_02", "wait_01;claim=-7;leg=call_02",
		"wait_01;claim=07;leg=call_02", "que_01;claim=7;leg=call_02", "wait_01;claim=7;leg=02", "wait_01;claim=7;leg=call_02;leg=call_03",
		"wait_01;claim=99999999999999999999;leg=call_02", "wait_01 ;claim=7;leg=call_02",
	} {
		if got, ok := parseCallerClaim(value); ok {
			t.Errorf("%q is read as %+v", value, got)
		}
	}
}

func FuzzCallerClaim(f *testing.F) {
	f.Add("wait_01;claim=7;leg=call_02")
	f.Add("wait_01;claim=7;leg=call_02;agent=agent_03")
	f.Add("wait_;claim=1;leg=call_")
	f.Add(";claim=;leg=")
	f.Fuzz(func(t *testing.T, value string) {
		c, ok := parseCallerClaim(value)
		if ok && c.String() != value {
			t.Errorf("%q is written as %q", value, c)
		}
	})
}
