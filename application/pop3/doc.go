package pop3
