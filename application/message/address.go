package message

// Address is a Mailbox of RFC 5321 §4.1.2: a local part and a domain. The zero Address is the null reverse-path.
// Local is held unquoted ("a b" for the quoted string), Domain as received in lower case, without a trailing dot;
// an address literal keeps its brackets ("[192.0.2.1]"). <Postmaster> has an empty Domain (RFC 5321 §4.1.1.3).
type Address struct {
	Local  string
	Domain string
}
