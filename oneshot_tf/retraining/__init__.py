"""How are the chosen architectures trained? Their trainings, alone or shared with other copies."""
