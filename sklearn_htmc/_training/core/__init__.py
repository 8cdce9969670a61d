"""What every fit is made of: protocols, objective, penalties, certificate, one problem of a batch."""
