"""One floor per task; a floor imports the ground floor and no other floor."""
