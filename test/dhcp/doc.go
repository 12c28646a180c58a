// Package dhcp tests the DHCP services with the clients and relays that people have, in network namespaces that the test makes itself. Nothing leaves
// them. It needs root; without it everything is skipped, or fails where BOTHY_PEERS is "required".
package dhcp
