// Bothy is the command line: it starts the server and asks it things. One file a subcommand.
//
// Plane: cmd, above all others. Accounts and customers are changed in the directory's file, so that this works without a running server;
// the queue, fetch and status go to the running server through its admin socket; sendmail speaks SMTP to its submission socket.
//
// The path of one command: main.go gives run the arguments; cli.go has them parsed and calls the Run method of one subcommand with
// the context, the three streams and the global flags; that returns an error, and run turns it into a line and an exit code.
package main
