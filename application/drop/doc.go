// Package drop keeps what local programs send while the server is not running, until it is.
//
//	RFC 5321 §6.1:  what was taken is not lost: it is synced before the program hears that it was
//	RFC 5321 §4.5.3.1.10: more recipients than one transaction takes go on in further ones
//	RFC 1047:       a message may be submitted twice if the server dies between taking it and removing its file
//
// Left out: waking the server. It looks when it starts and each minute; while it runs, programs reach it at its socket.
//
// Plane: application. store.go is the folder and the format of its files; serve.go the Collector, which empties it.
//
// The folder is open for writing and not for reading to everybody on the machine (mode 1733): whoever knows no name finds nothing, and nobody
// but the owner of a file, and of the folder, removes it. Whose a message is, is whose its file is: the kernel says so, as it does at the
// socket. Links of any kind are not messages: they would be of somebody else.
//
// The path of one message: `bothy sendmail` finds nobody at the socket and calls Put: a file under a name that is not looked at, synced, renamed,
// and the name synced too. The Collector opens it, submits it as its owner, and removes it. Where its recipients take
// several transactions, the file's name says behind each how many of them are settled, and whether all who were refused were told of, and a start goes on from there. Recipients who are refused for good are told of in
// a notice to the sender; where there is nobody to tell, the file stays under another name and the log says so.
package drop
